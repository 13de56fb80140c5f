"""The closed state, encoded: tests/support/golden.py wrote it from dataplane/envoy_closed.py."""

CLUSTERS = {
    "blackhole": (
        b'\n\tblackhole\x10\x00"\x02\x08\x01\x8a\x02\x0b\n\tblackhole'
    ),
}

LISTENERS = {
    "out": (
        b'\n\x03out\x12\x10\n\x0e\x12\t127.0.0.1\x18\x99u\x8a\x02\x0c\n\n\n\x08\x12\x03::1\x18\x99u\x1a\x9a\x01\n\x04B\x02\x08\x01\x1a\x87\x01\n\x1fenvoy.filter'
        b's.network.tcp_proxy"d\nJtype.googleapis.com/envoy.extensions.filt'
        b'ers.network.tcp_proxy.v3.TcpProxy\x12\x16\n\tblackhole\x12\tblackhole:\x08senti'
        b'nel*\x04\x08\x80\x80\x04Jz\n#envoy.filters.listener.original_dst\x1aS\nQtype.googlea'
        b'pis.com/envoy.extensions.filters.listener.original_dst.v3.Origin'
        b'alDstZ\x02\x08\x01\x80\x01\x02\xea\x01\x00\xb2\x01\x8c\x07\n\x1benvoy.access_loggers.stdout\x12\xf7\x02Z\xf4\x02\n*envoy.ac'
        b'cess_loggers.extension_filters.cel\x1a\xc5\x02\nStype.googleapis.com/envoy'
        b'.extensions.access_loggers.filters.cel.v3.ExpressionFilter\x12\xed\x01\n\xea\x01'
        b'(response.flags != 0 || has(connection.transport_failure_reason)'
        b' || has(connection.termination_details)) && !(has(xds.filter_cha'
        b"in_name) && (xds.filter_chain_name.startsWith('probed|') || xds."
        b'filter_chain_name.startsWith(\'metrics|\')))"\xf2\x03\nMtype.googleapis.c'
        b'om/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\x12\xa0\x03\n'
        b'\x9d\x03\x12\x9a\x03\n\x1e\n\x05chain\x12\x15\x1a\x13%FILTER_CHAIN_NAME%\n\x1f\n\x07cluster\x12\x14\x1a\x12%UPSTREAM_CL'
        b'USTER%\n+\n\x0bdestination\x12\x1c\x1a\x1a%DOWNSTREAM_LOCAL_ADDRESS%\n5\n\ndownstrea'
        b"m\x12'\x1a%%DOWNSTREAM_TRANSPORT_FAILURE_REASON%\n\x1b\n\x05flags\x12\x12\x1a\x10%RESPONSE"
        b'_FLAGS%\n \n\x03sni\x12\x19\x1a\x17%REQUESTED_SERVER_NAME%\n.\n\x06source\x12$\x1a"%DOWNSTRE'
        b'AM_DIRECT_REMOTE_ADDRESS%\n-\n\x07timeout\x12"\x1a %CONNECTION_TERMINATION_'
        b'DETAILS%\n1\n\x08upstream\x12%\x1a#%UPSTREAM_TRANSPORT_FAILURE_REASON%\n"\n\ru'
        b'pstream_host\x12\x11\x1a\x0f%UPSTREAM_HOST%'
    ),
    "in": (
        b'\n\x02in\x12\x0e\n\x0c\x12\x070.0.0.0\x18\x9eu\x8a\x02\x0b\n\t\n\x07\x12\x02::\x18\x9eu\x1a\x9a\x01\n\x04B\x02\x08\x01\x1a\x87\x01\n\x1fenvoy.filters.ne'
        b'twork.tcp_proxy"d\nJtype.googleapis.com/envoy.extensions.filters.'
        b'network.tcp_proxy.v3.TcpProxy\x12\x16\n\tblackhole\x12\tblackhole:\x08sentinel*'
        b'\x04\x08\x80\x80\x04Jz\n#envoy.filters.listener.original_dst\x1aS\nQtype.googleapis.'
        b'com/envoy.extensions.filters.listener.original_dst.v3.OriginalDs'
        b'tJ}\n$envoy.filters.listener.tls_inspector\x1aU\nStype.googleapis.com'
        b'/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector'
        b'z\x02\x08\x05Z\x02\x08\x01\x80\x01\x01\xea\x01\x00\xb2\x01\x8c\x07\n\x1benvoy.access_loggers.stdout\x12\xf7\x02Z\xf4\x02\n*envoy.acc'
        b'ess_loggers.extension_filters.cel\x1a\xc5\x02\nStype.googleapis.com/envoy.'
        b'extensions.access_loggers.filters.cel.v3.ExpressionFilter\x12\xed\x01\n\xea\x01('
        b'response.flags != 0 || has(connection.transport_failure_reason) '
        b'|| has(connection.termination_details)) && !(has(xds.filter_chai'
        b"n_name) && (xds.filter_chain_name.startsWith('probed|') || xds.f"
        b'ilter_chain_name.startsWith(\'metrics|\')))"\xf2\x03\nMtype.googleapis.co'
        b'm/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\x12\xa0\x03\n\x9d'
        b'\x03\x12\x9a\x03\n\x1e\n\x05chain\x12\x15\x1a\x13%FILTER_CHAIN_NAME%\n\x1f\n\x07cluster\x12\x14\x1a\x12%UPSTREAM_CLU'
        b'STER%\n+\n\x0bdestination\x12\x1c\x1a\x1a%DOWNSTREAM_LOCAL_ADDRESS%\n5\n\ndownstream'
        b"\x12'\x1a%%DOWNSTREAM_TRANSPORT_FAILURE_REASON%\n\x1b\n\x05flags\x12\x12\x1a\x10%RESPONSE_"
        b'FLAGS%\n \n\x03sni\x12\x19\x1a\x17%REQUESTED_SERVER_NAME%\n.\n\x06source\x12$\x1a"%DOWNSTREA'
        b'M_DIRECT_REMOTE_ADDRESS%\n-\n\x07timeout\x12"\x1a %CONNECTION_TERMINATION_D'
        b'ETAILS%\n1\n\x08upstream\x12%\x1a#%UPSTREAM_TRANSPORT_FAILURE_REASON%\n"\n\rup'
        b'stream_host\x12\x11\x1a\x0f%UPSTREAM_HOST%'
    ),
}
