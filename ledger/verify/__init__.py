"""Whether everything sealed is still exactly what was sealed, judged without trusting any of it."""
