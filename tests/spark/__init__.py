"""Our SQL on Apache Spark: the same text gives the same rows (`make spark` fetches it)."""
