"""What a CoLa-Diff is compared with: simpler models, and other papers', behind its interface."""
