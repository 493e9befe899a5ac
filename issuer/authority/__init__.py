"""The session authority: who the person is, what the session may be, and when it is over."""
