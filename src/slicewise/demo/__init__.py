"""Supervision of the demo's two services, the API and the page.

commands    command lines of the services
state       `demo.json`: what runs, under which supervisor, on which ports
lifecycle   start and stop a demo
health      health checks over HTTP; standard library only
supervisor  backend `builtin`: SliceWise's own supervisor, which restarts services with growing delays
pm2         backend `pm2`
processes   find and stop processes by id and start time; log files
"""
