//! What ships: the image, the chart and its rendered manifests, the compose file.

mod api_server;
mod chart;
mod compose;
mod container;
mod image;
mod schema;
