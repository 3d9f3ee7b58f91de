import Packets

extension Configuration {
  /// Of a document, in octets.
  public static let maximumDocument = 512 << 10

  /// Of an address or a route: its entry and its places in tables, and what they leave behind when they
  /// grow.
  static let routeMemory = 1024

  static var tooLong: ConfigurationError {
    ConfigurationError("the document is longer than 512 KiB")
  }

  /// Reads the document of the contract between platform and function. What is not known is passed
  /// over.
  ///
  /// - Parameters:
  ///   - start: where it begins in these octets.
  ///   - memory: how much it may take, in octets.
  public init(
    document: [UInt8], from start: Int = 0, memory: Int = .max
  ) throws(ConfigurationError) {
    guard document.count - start <= Self.maximumDocument else { throw Self.tooLong }
    var generation = 0
    var ports: [Port] = []
    var parameters = 0..<0
    var reader = JSONReader(document, start..<document.count, memory: memory)
    try reader.enterObject()
    while let name = try reader.nextMember() {
      if name.equals("generation") {
        generation = try reader.integer()
      } else if name.equals("ports") {
        try reader.enterArray()
        while try reader.nextElement() {
          guard ports.count < Self.maximumPorts else {
            throw reader.error("there are more than 8 ports")
          }
          ports.append(try Port(from: &reader))
        }
      } else if name.equals("parameters") {
        guard try reader.peek() == 0x7b else { throw reader.error("an object is expected") }
        parameters = try reader.value()
      } else {
        try reader.skip()
      }
    }
    try reader.finish()
    // Stages read theirs one after another.
    self.init(
      generation: UInt64(generation), ports: ports, text: document, parameters: parameters,
      memory: reader.memory / 2)
  }

  /// Gives one parameter after the other, by `nextMember()`.
  @inline(never)
  func parameterReader() throws(ConfigurationError) -> JSONReader {
    let place = [UInt8](Self.place)
    var reader =
      parameters.isEmpty
      ? JSONReader([0x7b, 0x7d], 0..<2, memory: memory, at: place)
      : JSONReader(text, parameters, memory: memory, at: place)
    try reader.enterObject()
    return reader
  }

  private static var place: StaticString { "parameters" }

  /// The place of the port that the next value names.
  @inline(never)
  func port(from reader: inout JSONReader) throws(ConfigurationError) -> Int {
    let name = try reader.string()
    for index in ports.indices where ports[index].name == name { return index }
    throw reader.error("no port has this name")
  }
}

extension Configuration.Port {
  init(from reader: inout JSONReader) throws(ConfigurationError) {
    var port = Configuration.Port(mac: MACAddress(0))
    var mac: MACAddress?
    try reader.enterObject()
    while let name = try reader.nextMember() {
      if name.equals("name") {
        port.name = try reader.string()
      } else if name.equals("mac") {
        mac = MACAddress(text: try reader.string())
        if mac == nil { throw reader.error("a MAC address is expected") }
      } else if name.equals("interface") {
        port.interface = try reader.string()
        guard 1...15 ~= port.interface.count, !port.interface.contains(0) else {
          throw reader.error("an interface's name is expected")
        }
      } else if name.equals("mtu") {
        port.mtu = try reader.integer()
        guard 576...65_535 ~= port.mtu else { throw reader.error("an MTU is 576 to 65535") }
      } else if name.equals("addresses") {
        try reader.enterArray()
        while try reader.nextElement() {
          try reader.spend(Configuration.routeMemory)
          port.addresses.append(try reader.prefix())
        }
      } else if name.equals("routes") {
        try reader.enterArray()
        while try reader.nextElement() {
          try reader.spend(Configuration.routeMemory)
          port.routes.append(try Configuration.Route(from: &reader))
        }
      } else {
        try reader.skip()
      }
    }
    guard let mac else { throw reader.error("a port needs a MAC address") }
    port.mac = mac
    self = port
  }
}

extension Configuration.Route {
  init(from reader: inout JSONReader) throws(ConfigurationError) {
    var destination: Prefix?
    var via: IPv6Address?
    try reader.enterObject()
    while let name = try reader.nextMember() {
      if name.equals("destination") {
        destination = try reader.prefix()
      } else if name.equals("via") {
        via = try reader.address()
      } else {
        try reader.skip()
      }
    }
    guard let destination, let via else {
      throw reader.error("a route needs a destination and a next hop")
    }
    self.init(destination: destination, via: via)
  }
}

extension JSONReader {
  /// An address or a prefix.
  @inline(never)
  mutating func prefix() throws(ConfigurationError) -> Prefix {
    guard let prefix = Prefix(text: try string()) else {
      throw error("an address or a prefix is expected")
    }
    return prefix
  }

  @inline(never)
  mutating func address() throws(ConfigurationError) -> IPv6Address {
    guard let address = IPv6Address(text: try string()[...]) else {
      throw error("an address is expected")
    }
    return address
  }

  /// A port of a transport, as a number or a string, or a range such as `"8000-8100"`.
  @inline(never)
  mutating func ports() throws(ConfigurationError) -> PortRange {
    var first = 0
    var last: Int?
    if try peek() == 0x22 {
      let text = try string()
      var digits = 0
      for octet in text {
        if octet == 0x2d, last == nil, digits > 0 {
          last = first
          first = 0
          digits = 0
        } else if case 0x30...0x39 = octet, digits < 5 {
          first = first * 10 + Int(octet - 0x30)
          digits += 1
        } else {
          digits = 6
        }
      }
      // What stood before the dash is the smaller one.
      if let begin = last { (first, last) = (begin, first) }
      if !(1...5 ~= digits) { first = -1 }
    } else {
      first = try integer()
    }
    let end = last ?? first
    guard first >= 0, first <= end, end <= 65_535 else {
      throw error("a port or a range such as \"8000-8100\" is expected")
    }
    return PortRange(UInt16(first), UInt16(end))
  }

  /// How many flows there is to be place for.
  mutating func flows() throws(ConfigurationError) -> Int {
    let count = try integer()
    guard 1...1_000_000 ~= count else { throw error("flows are 1 to 1000000") }
    return count
  }
}
