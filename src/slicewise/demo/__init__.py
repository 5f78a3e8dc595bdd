"""Supervision of the demo's two services, the API and the page.

state       `demo.json`: what runs, under which supervisor, on which ports; whether it is healthy
lifecycle   start and stop a demo
supervisor  backend `builtin`: SliceWise's own supervisor, which restarts services with growing delays
pm2         backend `pm2`
logs        the services' log files, which each service rotates itself
processes   find and stop processes by id and start time
"""
