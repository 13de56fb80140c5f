"""Programs that run inside pods by themselves: copied there, started by path, importing only the standard
library. They know nothing of toposeal."""
