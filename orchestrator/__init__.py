"""What runs when: assets, checks, sensors, automation, partitions, and the command line (cli/).

Belongs here: Dagster. Does not belong here: SQL, DataFrame code, how an engine is started. `definitions.build_definitions`
is the one place where the graph is put together.
"""

import warnings

# Beta and preview features of Dagster that the design rests on; its version is pinned. By text, as naming the category
# would import Dagster (1 s) for who needs none of it.
warnings.filterwarnings("ignore", message=r"(?s).*is currently in (beta|preview)")
warnings.filterwarnings("ignore", message=r"(?s).*has been superseded and its usage is discouraged")
