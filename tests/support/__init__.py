"""What several tests share: builders of real inputs and small real servers."""
