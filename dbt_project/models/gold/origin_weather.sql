{{ config(
    unique_key=['observation_date', 'origin', 'time_hour'],
    range_column='observation_date',
    tags=['daily'],
) }}

with weather as (
    select
        origin,
        observation_date,
        time_hour,
        temp,
        humid,
        {{ plausible_wind('wind_speed') }} as wind_speed,
        wind_gust,
        precip,
        visib,
        pressure,
        {{ row_available_at('weather') }} as available_at
    from {{ source('silver', 'weather') }}
    where {{ in_range('observation_date') }}
),

final as (
    select
        origin,
        observation_date,
        time_hour,
        temp,
        humid,
        wind_speed,
        wind_gust,
        precip,
        visib,
        pressure,
        available_at
    from weather
)

select * from final
