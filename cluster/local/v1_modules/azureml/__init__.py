"""The parts of the Azure ML v1 SDK that a scoring script needs in a replica."""
