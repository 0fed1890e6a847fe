"""The command line, one file per verb. Heavy imports wait until a verb runs, so that --help is quick."""
