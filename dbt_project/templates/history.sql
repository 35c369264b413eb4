{{ config(
    unique_key=['<< key >>', '<< day >>'],
    range_column='<< day >>',
    tags=['daily'],
) }}

-- What a << key >> was like in the 28 days up to a day, and from when on that was known.
with << gold >> as (
    select
        cast(<< key >> as varchar) as << key >>,
        << day >><< ',\n        '.join([''] + measures) >>
    from {{ ref('<< gold >>') }}
    where
        {{ in_range('<< day >>', lookback_days=27) }}
        and << key >> is not null
),

days as (
    select
        << key >>,
        << day >>,
        count(*) as rows_of_day
<%- for measure in measures %>,
        count(<< measure >>) as known_<< measure >>,
        sum(cast(<< measure >> as double)) as total_<< measure >>
<%- endfor %>
    from << gold >>
    group by << key >>, << day >>
),

history as (
    select
        << key >>,
        << day >>,
        rows_of_day,
        sum(rows_of_day) over last_28_days as rows_28d
<%- for measure in measures %>,
        sum(known_<< measure >>) over last_28_days as known_<< measure >>,
        sum(total_<< measure >>) over last_28_days as total_<< measure >>
<%- endfor %>
    from days
    window
        last_28_days as (
            partition by << key >>
            order by << day >>
            range between interval '27' day preceding and current row
        )
),

final as (
    select
        << key >>,
        << day >>,
        rows_of_day,
        rows_28d
<%- for measure in measures %>,
        total_<< measure >> / nullif(known_<< measure >>, 0) as mean_<< measure >>_28d
<%- endfor %>,
        << available >> as available_at
    from history
    where {{ in_range('<< day >>') }}
)

select * from final
