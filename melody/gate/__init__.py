"""Results held to thresholds, or to an earlier result, as exit codes and JUnit XML for a hosted CI."""
