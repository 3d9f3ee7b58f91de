public import Wire

extension GuestStart {
  /// The content of ``ControlProtocol/Place/start``: a 16-bit version and the values in order.
  ///
  /// - Throws: ``WireError/tooLong``.
  public func encoded() throws(WireError) -> [UInt8] {
    var writer = WireWriter()
    writer.put(ControlProtocol.version)
    writer.put(list: command) { $0.put($1) }
    writer.put(list: environment) { $0.put($1) }
    writer.put(workingDirectory)
    writer.put(hostName)
    writer.put(forwards)
    writer.put(list: files) { writer, file in
      writer.put(file.path)
      writer.put(file.mode)
    }
    writer.put(list: ports) { writer, port in
      writer.put(port.name)
      writer.put(data: port.mac)
      writer.put(port.mtu)
      writer.put(list: port.addresses) { $1.write(to: &$0) }
      writer.put(list: port.routes) { writer, route in
        route.destination.write(to: &writer)
        writer.put(data: route.via)
      }
    }
    return try writer.finish(limit: ControlProtocol.maximumFrameSize)
  }

  public init(_ bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    let version = try reader.get(UInt16.self)
    guard version == ControlProtocol.version else {
      throw .unknownTag(what: "version", tag: version)
    }
    command = try reader.getList { reader throws(WireError) in try reader.getString() }
    environment = try reader.getList { reader throws(WireError) in try reader.getString() }
    workingDirectory = try reader.getString()
    hostName = try reader.getString()
    forwards = try reader.getBool()
    files = try reader.getList { reader throws(WireError) in
      File(path: try reader.getString(), mode: try reader.get())
    }
    ports = try reader.getList { reader throws(WireError) in
      Port(
        name: try reader.getString(), mac: try reader.getData(), mtu: try reader.get(),
        addresses: try reader.getList { reader throws(WireError) in try Prefix(from: &reader) },
        routes: try reader.getList { reader throws(WireError) in
          Route(destination: try Prefix(from: &reader), via: try reader.getData())
        })
    }
    try reader.finish()
  }
}

extension GuestStart.Prefix: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(data: octets)
    writer.put(length)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    octets = try reader.getData()
    length = try reader.get()
  }
}
