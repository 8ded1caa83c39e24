//! What ships: the image, the chart and its rendered manifests, the compose file, the systemd unit.

mod api_server;
mod chart;
mod compose;
mod container;
mod image;
mod schema;
mod unit;
