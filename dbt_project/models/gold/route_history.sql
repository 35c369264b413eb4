{{ config(
    unique_key=['origin', 'dest', 'flight_date'],
    range_column='flight_date',
    tags=['daily'],
) }}

{{ history_of_28_days(['origin', 'dest'], one_name={'route': "origin || '-' || dest"}) }}
