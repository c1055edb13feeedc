"""The lab: replay a history under any strategy, in virtual time, and count what users really saw."""
