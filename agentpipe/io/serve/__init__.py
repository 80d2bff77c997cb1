"""The hub's process: one port for WebSocket, HTTP API and page.

``app`` starts and stops it, ``intake`` stores what comes in, ``feed`` writes what goes out, ``websocket`` and ``api``
speak to clients, ``auth`` decides who may, ``assets`` holds the page, ``standard_input`` reads events from a pipe.
"""
