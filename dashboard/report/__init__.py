"""The weekly report: numbers of one week at one size of the ledger, in six forms, with their evidence."""
