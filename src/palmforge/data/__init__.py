"""From files on disk to batches. The DataModule is `palmforge.data.datamodule.PalmDataModule`."""
