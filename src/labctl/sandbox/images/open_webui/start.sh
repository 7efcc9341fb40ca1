#!/bin/bash
exec python3 -m standins.open_webui
