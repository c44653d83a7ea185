"""The routes of the write service, by domain. Each is thin: body, handler, answer."""
