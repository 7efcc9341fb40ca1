ui = true
api_addr = $api_address
cluster_addr = "https://127.0.0.1:8201"

storage "raft" {
  path = "/var/lib/openbao/raft"
  node_id = $node_id
  # One node: no neighbour needs time to answer an election.
  performance_multiplier = 1
}

# One node: nobody else has business on the cluster's port.
listener "tcp" {
  address = $listen_address
  cluster_address = "127.0.0.1:8201"
  tls_cert_file = $cert
  tls_key_file = $key
  tls_min_version = "tls12"
}

# Declared here because OpenBao since 2.4 refuses to add an audit device over the API.
audit "file" "main" {
  description = "every request, secret values hashed"
  options = {
    file_path = "/var/log/openbao/audit.log"
    mode = "0600"
  }
}
