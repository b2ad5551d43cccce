#!/bin/sh
# Registers, in the data folder of `reseal serve --dev`:
#   notes-web   the front end: its tokens name `notes` in their audience, may read and write notes, and slide
#   notes-api   the service itself: reads the feed, and may ask about tokens for `notes`
# The secret of notes-api goes to notes-api.json beside the folder's other secrets. Run again, it gets a new one.
set -eu
: "${RESEAL:=cargo run --release --quiet --package reseal --}"
: "${DATA:=reseal-data}"

$RESEAL clients show --data "$DATA" notes-web >/dev/null 2>&1 ||
    $RESEAL clients add --data "$DATA" notes-web --name 'Notes' --policy web \
        --audience notes --scope 'notes:read notes:write' \
        --claims name,email,phone_number,phone_number_verified,roles \
        --origin 'http://127.0.0.1:*' --origin 'http://localhost:*' >/dev/null

umask 077
if $RESEAL clients show --data "$DATA" notes-api >/dev/null 2>&1; then
    $RESEAL clients rotate-secret --data "$DATA" notes-api --json >"$DATA/notes-api.json"
else
    $RESEAL clients add --data "$DATA" notes-api --name 'Notes service' --confidential \
        --audience notes --scope reseal:feed --introspect --json >"$DATA/notes-api.json"
fi
echo "notes-web and notes-api are registered; the secret of notes-api is in $DATA/notes-api.json"
