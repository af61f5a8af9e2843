#!/bin/sh
# Says what it is run as: each of its lines is one fact.
echo "RAN $0"
echo "uid=$(id -u)"
for argument; do printf 'argument=%s\n' "$argument"; done
env | sed 's/^/env /'
