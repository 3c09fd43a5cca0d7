"""Where sessions are kept: one contract (`base`), one suite, several backends."""
