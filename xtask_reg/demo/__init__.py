"""The demonstration: fine-tuning with and without the source network's help, on synthetic faces."""
