{# By month, sums of this model are those of the model that it is made of: `sums` maps each expression here to the one there.
   A run's range limits it to the months that the run made: others may wait for their own run. #}
{% test adds_up(model, to, day, to_day, sums) %}
    with here as (
        select
            toStartOfMonth({{ day }}) as month_of_sums,
            tuple({{ sums.keys() | join(', ') }}) as found
        from {{ model }}
        where {{ in_months_of_range(day) }}
        group by month_of_sums
    ),

    there as (
        select
            toStartOfMonth({{ to_day }}) as month_of_sums,
            tuple({{ sums.values() | join(', ') }}) as expected
        from {{ to }}
        where {{ in_months_of_range(to_day) }}
        group by month_of_sums
    )

    select
        month_of_sums,
        found,
        expected
    from here
    full outer join there using (month_of_sums)
    where found != expected
{% endtest %}
