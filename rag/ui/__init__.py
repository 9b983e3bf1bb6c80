"""stream -> growing answer in a browser: layout and wiring, chat, library, rendering, style."""
