"""Policy: versioned bundles of Cedar, judged by their own scenarios, and the decision over one question."""
