"""The db-updater: the one owner of the database, which applies the log, archives it, trims it and offers snapshots."""
