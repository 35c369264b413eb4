{{ config(
    unique_key=['carrier', 'flight_date'],
    range_column='flight_date',
    tags=['daily'],
) }}

{{ history_of_28_days(['carrier']) }}
