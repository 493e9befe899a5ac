"""What people look at: the dashboard, and the weekly report."""
