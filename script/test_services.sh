#!/usr/bin/env bash
# A tour of the API with curl: two users, a tweet, likes, retweets, lists, errors. A line for each check.
#
#   script/test_services.sh                                   the services on this machine; started if none answer
#   READ_URL=http://read:8000 WRITE_URL=http://write:8001 script/test_services.sh
#   READ_URL=https://twitter.example WRITE_URL=https://twitter.example script/test_services.sh   through one door
#
# Sends the token that an account comes with, if it comes with one: passes with AUTH_REQUIRED true or false. Accounts
# that came with a token are deleted again. PYTHON names the interpreter that starts the services and reads JSON,
# CURL_OPTIONS goes to curl (-k, --resolve ...).
#
# Exit code: 0 all passed, 1 a check failed, 3 a service does not answer. Needs bash, curl and python3.
set -uo pipefail

root="$(cd "$(dirname "$0")/.." && pwd)"
python="${PYTHON:-$([ -x "$root/.venv/bin/python" ] && echo "$root/.venv/bin/python" || echo python3)}"
read_url="${READ_URL:-http://localhost:8000}"
write_url="${WRITE_URL:-http://localhost:8001}"
scratch="$(mktemp -d)"
system_pid=""
passed=0
failed=0
token=""
position=0

die() {
    printf 'test_services: %s\n' "$*" >&2
    exit 3
}

stop_and_tidy() {
    if [ -n "$system_pid" ]; then
        kill -TERM "$system_pid" 2>/dev/null
        wait "$system_pid" 2>/dev/null
    fi
    rm -rf "$scratch"
}
trap stop_and_tidy EXIT
trap 'exit 130' INT TERM

# Prints what a Python expression makes of the JSON that was answered last, as `it`; nothing if it makes nothing.
json() {
    "$python" -c 'import json, sys
it = json.load(open(sys.argv[1], encoding="utf-8"))
print(eval(sys.argv[2], {"it": it}))' "$scratch/body" "$1" 2>/dev/null
}

# Asks a route: `ask GET /tweets/7`, `ask POST /tweets '{"content": "hi"}'`. Leaves $status and the body.
# Reads send the position of the last write, so that they see it, whichever reader answers.
ask() {
    local method="$1" path="$2" base="$write_url"
    local arguments=(-X "$method" -H "X-Min-Position: $position")
    [ "$method" != GET ] || base="$read_url"
    [ "$method" = GET ] || arguments=(-X "$method")
    [ -z "$token" ] || arguments+=(-H "Authorization: Bearer $token")
    [ $# -lt 3 ] || arguments+=(-H 'Content-Type: application/json' -d "$3")
    # shellcheck disable=SC2086  # CURL_OPTIONS are words
    status="$(curl ${CURL_OPTIONS:-} -s -m 20 -D "$scratch/head" -o "$scratch/body" -w '%{http_code}' "${arguments[@]}" "$base$path")"
    if [ "$method" != GET ] && [ "$status" -lt 300 ]; then
        position="$(tr -d '\r' <"$scratch/head" | awk 'tolower($1) == "x-log-position:" { print $2 }')"
    fi
}

# `check "what" 201 "it['content'] == 'hi'"`: PASS if the last answer has this status and the expression is true.
check() {
    local what="$1" wanted="$2" expression="${3:-True}"
    if [ "$status" = "$wanted" ] && [ "$(json "bool($expression)")" = True ]; then
        passed=$((passed + 1))
        printf 'PASS  %s\n' "$what"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s\n      wanted %s and %s, got %s: %s\n' "$what" "$wanted" "$expression" "$status" \
            "$(head -c 500 "$scratch/body" 2>/dev/null)"
    fi
}

# shellcheck disable=SC2086  # CURL_OPTIONS are words
answers() { curl ${CURL_OPTIONS:-} -s -m 5 -o /dev/null "$1/"; }

# Starts the whole system on free ports and on data that goes away.
start_services() {
    printf 'nothing answers: starting the services ...\n'
    env -u REDIS_URL -u DATABASE_URL PYTHONPATH="$root" "$python" -m services.cli dev --data "$scratch/data" \
        --read-port 0 --write-port 0 --owner-port 0 --redis-port 0 >"$scratch/dev.log" 2>&1 &
    system_pid=$!
    local tries=0
    until [ -s "$scratch/data/dev.json" ]; do
        tries=$((tries + 1))
        if ! kill -0 "$system_pid" 2>/dev/null || [ "$tries" -gt 1200 ]; then
            tail -20 "$scratch/dev.log" >&2
            die "the services did not start: their last lines are above"
        fi
        sleep 0.1
    done
    cp "$scratch/data/dev.json" "$scratch/body"
    read_url="$(json 'it["read_url"]')"
    write_url="$(json 'it["write_url"]')"
}

silent=()
answers "$read_url" || silent+=("$read_url")
answers "$write_url" || silent+=("$write_url")
if [ ${#silent[@]} -eq 2 ] && [ -z "${READ_URL:-}${WRITE_URL:-}" ]; then
    start_services
elif [ ${#silent[@]} -gt 0 ]; then
    die "${silent[*]} does not answer: start it, or set READ_URL and WRITE_URL"
fi
printf 'read service %s, write service %s\n' "$read_url" "$write_url"

name="tour_$$_$RANDOM"
ask POST /users "{\"username\": \"${name}_b\", \"email\": \"${name}_b@example.com\"}"
check "a user is created" 201 "it['username'] == '${name}_b' and 'email' not in it"
bob="$(json 'it["id"]')"
bobs_token="$(json 'it.get("access_token", "")')"

ask POST /users "{\"username\": \"$name\", \"email\": \"$name@example.com\", \"password\": \"a long password\"}"
check "a user with a password is created" 201 "it['followers_count'] == 0"
ada="$(json 'it["id"]')"
token="$(json 'it.get("access_token", "")')"
if [ -n "$token" ]; then echo "      it came with a token, which is sent from here on"; fi

ask POST /users "{\"username\": \"$name\", \"email\": \"other_$name@example.com\"}"
check "a name is taken once" 409 "it['code'] == 'username_taken'"
ask POST /tweets "{\"content\": \"hello from $name\", \"user_id\": ${ada:-0}}"
check "a tweet is created" 201 "it['content'] == 'hello from $name' and it['user_id'] == ${ada:-0}"
tweet="$(json 'it["id"]')"
ask GET "/tweets/$tweet"
check "it can be read at once, with its author" 200 "it['user']['username'] == '$name' and it['likes'] == 0"
ask POST "/tweets/$tweet/like"
check "it is liked" 200 "it['status'] == 'success'"
ask POST "/tweets/$tweet/like" "{\"user_id\": ${ada:-0}}"
check "it is liked by somebody who is named" 200 "it['status'] == 'success'"
ask POST "/tweets/$tweet/like" "{\"user_id\": ${ada:-0}}"
check "liking it again is a success" 200 "it['status'] == 'success'"
ask POST "/tweets/$tweet/retweet"
check "it is retweeted" 200 "it['status'] == 'success'"
ask GET "/tweets/$tweet"
# With a token the bare like was hers, too; without one it was anonymous.
check "its likes and retweets are counted" 200 "it['likes'] == $([ -n "$token" ] && echo 1 || echo 2) and it['retweets'] == 1"
ask POST "/users/$bob/follow" "{\"user_id\": ${ada:-0}}"
check "somebody is followed" 200 "it['status'] == 'success'"
ask GET "/users/$bob"
check "followers are counted" 200 "it['followers_count'] == 1"
ask GET "/users/$ada/tweets?limit=10&offset=0"
check "the tweets of a user are a list" 200 "[each['id'] for each in it] == [${tweet:-0}]"
ask GET "/users/$ada/tweets?limit=101"
check "a page has at most 100" 422 "it['code'] == 'validation_error'"
ask GET /tweets/1048577
check "a tweet that is not there is 404" 404 "it['detail'] == 'Tweet not found'"
ask POST /tweets "{\"content\": \" \", \"user_id\": ${ada:-0}}"
check "a blank tweet is refused" 422 "it['code'] == 'validation_error'"
ask DELETE "/tweets/$tweet" "{\"user_id\": ${ada:-0}}"
check "the tweet is deleted" 200 "it['status'] == 'success'"
ask GET "/tweets/$tweet"
check "and then it is gone" 404 "it['code'] == 'tweet_not_found'"
for token in "$token" "$bobs_token"; do
    [ -n "$token" ] || continue
    ask DELETE /users/me
    check "an account of this tour is deleted" 200 "it['status'] == 'success'"
done

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
