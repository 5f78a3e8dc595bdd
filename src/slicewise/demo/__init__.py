"""Supervision of the demo's two services, the API and the page.

commands    command lines of the services
spec        services as data, passed to a supervisor in a file
state       `demo.json`: what runs, under which supervisor, on which ports
lifecycle   start and stop a demo
health      health checks over HTTP; standard library only
builtin     backend `builtin`: launch, refresh and stop SliceWise's own supervisor
supervisor  the process behind `builtin`: restarts services with growing delays
pm2         backend `pm2`
processes   find and stop processes by id and start time; log files
"""
