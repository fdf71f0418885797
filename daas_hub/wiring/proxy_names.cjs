"use strict";
// Loaded into configurable-http-proxy (node --require) where hub, proxy and servers speak TLS (docs/decisions/0133).
//
// Node checks a certificate for the name in the request's Host header, and the proxy hands on the browser's, which
// names the hub. A connection is for whom its target names: that name is checked. And no DNS knows the names of
// launches, `<launch>.<host>.daas.internal`: the host is looked up (daas_hub/core/launch_names.py).

const dns = require("node:dns");
const https = require("node:https");
const net = require("node:net");

const SUFFIX = ".daas.internal";
const IPV6 = ".ip6";

function hostOf(name) {
  if (!name.endsWith(SUFFIX)) return name;
  const host = name.slice(name.indexOf(".") + 1, -SUFFIX.length);
  return host.endsWith(IPV6) ? host.slice(0, -IPV6.length).replaceAll("-", ":") : host || name;
}

const connect = https.Agent.prototype.createConnection;

https.Agent.prototype.createConnection = function (options, ...rest) {
  const target = options.host;
  const lookup = options.lookup ?? dns.lookup;
  const checked = {
    ...options,
    // Without one the address itself is checked.
    servername: net.isIP(target) ? "" : target,
    lookup: (name, how, done) => lookup(hostOf(name), how, done),
  };
  return connect.call(this, checked, ...rest);
};
