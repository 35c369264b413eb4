"""The model over HTTP: a scheduled flight in, the probability that it arrives late out.

Belongs here: requests and answers, which version answers, and what the server says of itself. Does not belong here: how
features are read (ml/features, feature_repo), or how the command starts it (orchestrator/cli/serve). Importing it loads
FastAPI, so it is imported only where something is served.
"""
