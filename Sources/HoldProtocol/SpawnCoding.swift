public import LinuxSystem
public import Wire

extension DescriptorSource: WireValue {
  public func write(to writer: inout WireWriter) {
    switch self {
    case .passed(let index):
      writer.put(UInt8(1))
      writer.put(index)
    case .held(let key, let role):
      writer.put(UInt8(2))
      writer.put(key)
      writer.put(role.rawValue)
    }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt8.self)
    switch tag {
    case 1: self = .passed(try reader.get())
    case 2: self = .held(key: try reader.getString(), try DescriptorRole(from: &reader))
    default: throw .unknownTag(what: "descriptor source", tag: UInt16(tag))
    }
  }
}

extension DescriptorRole: WireValue {
  public func write(to writer: inout WireWriter) { writer.put(rawValue) }

  public init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt8.self)
    guard let role = DescriptorRole(rawValue: tag) else {
      throw .unknownTag(what: "descriptor role", tag: UInt16(tag))
    }
    self = role
  }
}

extension StandardStream: WireValue {
  public func write(to writer: inout WireWriter) {
    switch self {
    case .null: writer.put(UInt8(1))
    case .log(let path, let limit):
      writer.put(UInt8(2))
      writer.put(path)
      writer.put(limit)
    case .descriptor(let source):
      writer.put(UInt8(3))
      source.write(to: &writer)
    case .capture: writer.put(UInt8(4))
    }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt8.self)
    switch tag {
    case 1: self = .null
    case 2: self = .log(path: try reader.getString(), limit: try reader.get())
    case 3: self = .descriptor(try DescriptorSource(from: &reader))
    case 4: self = .capture
    default: throw .unknownTag(what: "standard stream", tag: UInt16(tag))
    }
  }
}

extension DescriptorMapping: WireValue {
  public func write(to writer: inout WireWriter) {
    source.write(to: &writer)
    writer.put(target)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    self.init(source: try DescriptorSource(from: &reader), target: try reader.get())
  }
}

extension UserIdentity: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(uid)
    writer.put(gid)
    writer.put(list: groups) { $0.put($1) }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    self.init(
      uid: try reader.get(), gid: try reader.get(),
      groups: try reader.getList { (reader) throws(WireError) in try reader.get(UInt32.self) })
  }
}

extension ResourceLimit: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(resource)
    writer.put(soft)
    writer.put(hard)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    self.init(resource: try reader.get(), soft: try reader.get(), hard: try reader.get())
  }
}

extension MountOperation: WireValue {
  public func write(to writer: inout WireWriter) {
    switch self {
    case .makePrivate(let path):
      writer.put(UInt8(1))
      writer.put(path)
    case .makeDirectory(let path, let mode, let owner):
      writer.put(UInt8(2))
      writer.put(path)
      writer.put(mode)
      writer.put(optionalValue: owner)
    case .tmpfs(let target, let size, let mode, let owner):
      writer.put(UInt8(3))
      writer.put(target)
      writer.put(size)
      writer.put(mode)
      writer.put(optionalValue: owner)
    case .bind(let source, let target, let attributes, let recursive):
      writer.put(UInt8(4))
      writer.put(source)
      writer.put(target)
      writer.put(attributes.rawValue)
      writer.put(recursive)
    case .move(let source, let target):
      writer.put(UInt8(5))
      writer.put(source)
      writer.put(target)
    case .overlay(let lower, let upper, let work, let target):
      writer.put(UInt8(6))
      writer.put(list: lower) { $0.put($1) }
      writer.put(upper)
      writer.put(work)
      writer.put(target)
    case .idmappedBind(let source, let target, let userNamespace, let attributes, let recursive):
      writer.put(UInt8(7))
      writer.put(source)
      writer.put(target)
      writer.put(userNamespace)
      writer.put(attributes.rawValue)
      writer.put(recursive)
    case .unmount(let target):
      writer.put(UInt8(8))
      writer.put(target)
    case .processes(let target):
      writer.put(UInt8(9))
      writer.put(target)
    }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt8.self)
    switch tag {
    case 1: self = .makePrivate(path: try reader.getString())
    case 2:
      self = .makeDirectory(
        path: try reader.getString(), mode: try reader.get(),
        owner: try reader.getOptionalValue())
    case 3:
      self = .tmpfs(
        target: try reader.getString(), size: try reader.get(), mode: try reader.get(),
        owner: try reader.getOptionalValue())
    case 4:
      self = .bind(
        source: try reader.getString(), target: try reader.getString(),
        attributes: Mount.Attributes(rawValue: try reader.get()),
        recursive: try reader.getBool())
    case 5: self = .move(source: try reader.getString(), target: try reader.getString())
    case 6:
      self = .overlay(
        lower: try reader.getStrings(), upper: try reader.getString(),
        work: try reader.getString(), target: try reader.getString())
    case 7:
      self = .idmappedBind(
        source: try reader.getString(), target: try reader.getString(),
        userNamespace: try reader.getString(),
        attributes: Mount.Attributes(rawValue: try reader.get()),
        recursive: try reader.getBool())
    case 8: self = .unmount(target: try reader.getString())
    case 9: self = .processes(target: try reader.getString())
    default: throw .unknownTag(what: "mount operation", tag: UInt16(tag))
    }
  }
}

extension WireReader {
  mutating func getStrings() throws(WireError) -> [String] {
    try getList { (reader) throws(WireError) in try reader.getString() }
  }

  mutating func getValues<Value: WireValue>(
    _ type: Value.Type = Value.self
  ) throws(WireError) -> [Value] {
    try getList { (reader) throws(WireError) in try Value(from: &reader) }
  }

  mutating func getOptionalValue<Value: WireValue>(
    _ type: Value.Type = Value.self
  ) throws(WireError) -> Value? {
    try getOptional { (reader) throws(WireError) in try Value(from: &reader) }
  }
}

extension WireWriter {
  mutating func put<Value: WireValue>(values: [Value]) {
    put(list: values) { $1.write(to: &$0) }
  }

  mutating func put<Value: WireValue>(optionalValue: Value?) {
    put(optional: optionalValue) { $1.write(to: &$0) }
  }
}

extension SpawnRequest: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(key)
    writer.put(executable)
    writer.put(list: arguments) { $0.put($1) }
    writer.put(list: environment) { $0.put($1) }
    writer.put(workingDirectory)
    input.write(to: &writer)
    output.write(to: &writer)
    error.write(to: &writer)
    writer.put(values: descriptors)
    writer.put(list: cgroups) { $0.put($1) }
    writer.put(optional: mounts) { $0.put(values: $1) }
    writer.put(unshare.rawValue)
    writer.put(values: join)
    writer.put(optionalValue: user)
    writer.put(optional: oomScoreAdjustment) { $0.put($1) }
    writer.put(values: limits)
    writer.put(noNewPrivileges)
    writer.put(controllingTerminal)
    writer.put(waitForExit)
    writer.put(optional: adoptPidFile) { $0.put($1) }
    writer.put(timeoutMilliseconds)
    writer.put(optional: sharedMounts) { $0.put($1) }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    self.init(
      key: try reader.getString(),
      executable: try reader.getString(),
      arguments: try reader.getStrings(),
      environment: try reader.getStrings(),
      workingDirectory: try reader.getString(),
      input: try StandardStream(from: &reader),
      output: try StandardStream(from: &reader),
      error: try StandardStream(from: &reader),
      descriptors: try reader.getValues(),
      cgroups: try reader.getStrings(),
      mounts: try reader.getOptional { (reader) throws(WireError) in
        try reader.getValues(MountOperation.self)
      },
      unshare: NamespaceSet(rawValue: try reader.get()),
      join: try reader.getValues(),
      user: try reader.getOptionalValue(),
      oomScoreAdjustment: try reader.getOptional { (reader) throws(WireError) in
        try reader.get(Int32.self)
      },
      limits: try reader.getValues(),
      noNewPrivileges: try reader.getBool(),
      controllingTerminal: try reader.getBool(),
      waitForExit: try reader.getBool(),
      adoptPidFile: try reader.getOptional { (reader) throws(WireError) in
        try reader.getString()
      },
      timeoutMilliseconds: try reader.get(),
      sharedMounts: try reader.getOptional { (reader) throws(WireError) in
        try reader.get(UInt32.self)
      })
  }
}

extension Mount.Owner: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(user)
    writer.put(group)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    self.init(user: try reader.get(), group: try reader.get())
  }
}
