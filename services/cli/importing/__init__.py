"""``twitter import``: users, follows and tweets from files, through the public API, each once, resumable."""
