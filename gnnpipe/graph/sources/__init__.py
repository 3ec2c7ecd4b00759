"""Where graphs come from: data sets by name, and the files of users."""
