"""``python -m itsms_sync`` is ``itsms-sync``."""

from itsms_sync.cli import main

main()
