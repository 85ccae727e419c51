"""The console: pages at /console/ for people, made here and complete without JavaScript."""
