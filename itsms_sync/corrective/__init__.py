"""From deviations to nonconformities and the tickets that ask for corrective action. Pure: decides, sends nothing."""
