"""The log in Redis, which any number of hubs share."""
