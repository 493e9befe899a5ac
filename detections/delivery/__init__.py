"""Alerts on their way to people: routes, what each is sent, and how far each has got."""
