"""The whole platform on one machine, without Docker and without root rights.

Belongs here: the JVM parts and where they come from (`runtimes`), the environment that plain tools need
(`environment`), the services and their life (`services`, `doctor`), and our ClickHouse server. Does not belong
here: anything that a cluster would do as well, and any knowledge of tables or assets. It may import `foundation` and
nothing else of ours.
"""
