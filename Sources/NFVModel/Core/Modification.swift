extension Core {
  /// Changes what is kept with an instance (SOL003 5.4.3.3.4).
  ///
  /// Where that changes the parameters of functions that run, the operation ends when these have taken
  /// them over. Else nothing on the host is concerned, and it ends in the commit that opens it, with
  /// all of its states told.
  mutating func modifyInfo(
    _ id: VnfInstanceID, _ request: ModifyVnfInfoRequest, _ tenant: TenantID, _ actor: String,
    at now: Timestamp, _ outcome: inout Outcome
  ) throws(NFVError) -> VnfLcmOpOcc {
    var instance = try instance(id, tenant, instantiated: nil)
    if let expected = request.expected, expected != instance {
      throw NFVError(
        .preconditionFailed, "\(instance.name) was changed by another; read it again")
    }
    let before = instance.modifiableAttributes
    let known = Set(VnfInstance.Attribute.allCases.map(\.rawValue))
    let unknown = request.patch.keys.filter { !known.contains($0) }
    guard unknown.isEmpty else {
      throw NFVError(
        .unprocessable,
        "\(list(unknown)) of \(instance.name) cannot be modified; these can: \(list(known))")
    }
    var after = before
    after.merge(patch: request.patch)
    try instance.setModifiable(after)
    try checkName(instance.name, of: id, tenant)
    try check(instance.info, of: instance, isComplete: instance.settled.isInstantiated)
    let shown = instance.modifiableAttributes
    let changed = shown.filter { before[$0.key] != $0.value }
    if changed[VnfInstance.Attribute.configurableProperties.rawValue] != nil,
      instance.settled.isInstantiated
    {
      return reconfigure(
        instance, from: before, changed, .object(request.patch), actor, at: now, &outcome)
    }

    var operation = VnfLcmOpOcc(
      id: identifiers.identifier(), tenant: tenant, instance: id, operation: .modifyInfo,
      state: .starting, startTime: now, actor: actor, parameters: .object(request.patch))
    operation.changedInfo = changed
    notify(operation, at: now, &outcome)
    enter(.processing, &operation, at: now, &outcome)
    commit(.putInstance(instance), &outcome)
    enter(.completed, &operation, at: now, &outcome)
    return operation
  }

  /// Converges to functions that have taken the instance's configurable properties over.
  private mutating func reconfigure(
    _ instance: VnfInstance, from before: [String: JSONValue], _ changed: [String: JSONValue],
    _ patch: JSONValue, _ actor: String, at now: Timestamp, _ outcome: inout Outcome
  ) -> VnfLcmOpOcc {
    var instance = instance
    // What they were until now is there to go back to, also where no function was told of them yet.
    if case .object(let values)? = before[VnfInstance.Attribute.configurableProperties.rawValue] {
      instance.settled.parameters.merge(values) { $1 }
    }
    var target = instance.settled
    target.parameters = configured(target.parameters, by: instance.info, of: instance)
    target.generation += 1
    return open(
      .modifyInfo, instance, target, patch, actor, changedInfo: changed, at: now, &outcome)
  }

  /// The parameters of an instance's functions, with the values of its configurable properties; one
  /// without value is as the descriptor has it.
  func configured(
    _ parameters: [String: JSONValue], by info: VnfInfo, of instance: VnfInstance
  ) -> [String: JSONValue] {
    guard let descriptor = state.packages[instance.package]?.content?.descriptor else {
      return parameters
    }
    var result = parameters
    for (name, declared) in descriptor.modifiable.configurableProperties {
      var value = declared.default
      if value == .null { value = nil }
      result[name] =
        info.configurableProperties[name] ?? value ?? descriptor.parameters[name]?.default
    }
    return result
  }

  /// The modification that functions of an instance are about to take over.
  func modification(of id: VnfInstanceID) -> VnfLcmOpOcc? {
    guard let operation = state.instances[id]?.openOperation.flatMap({ state.openOperations[$0] }),
      operation.operation == .modifyInfo, operation.state == .processing
    else { return nil }
    return operation
  }

  /// A function has taken its document over, refused it, or was not reached.
  mutating func endTelling(
    _ id: WorkloadID, _ generation: Int, _ result: ActionResult, at now: Timestamp,
    _ outcome: inout Outcome
  ) {
    guard var workload = state.workloads[id], workload.phase == .configuring else { return }
    let hadEnded = workload.exit != nil
    workload.phase = hadEnded ? .prepared : .serving
    workload.tellNotBefore = nil
    let instance = state.vnfcs[id.vnfc].flatMap { state.instances[$0.instance] }
    var failed: VnfLcmOpOcc?
    if let error = result.error, !hadEnded {
      if let instance, instance.target?.generation == generation {
        failed = modification(of: instance.id)
      }
      if failed == nil {
        // It goes on with what it has. What it refuses now it would refuse again.
        if error.code == .unprocessable {
          workload.generation = generation
        } else {
          workload.tellNotBefore = now + .seconds(10)
        }
      }
    } else if result.error == nil {
      workload.generation = generation
    }
    state.set(id, workload)
    if let error = result.error, let instance, var failed {
      if error.code == .unprocessable {
        failed.error = error
        refuse(&failed, of: instance, at: now, &outcome)
      } else {
        failOperation(of: instance.id, error, at: now, &outcome)
      }
    }
    recordAndConverge(id, result, at: now, &outcome)
  }

  /// Ends a modification that a function refuses: another try would come to the same. Functions that
  /// have taken it over already are told what was before.
  private mutating func refuse(
    _ operation: inout VnfLcmOpOcc, of instance: VnfInstance, at now: Timestamp,
    _ outcome: inout Outcome
  ) {
    var settled = instance
    restoreConfiguration(of: &settled)
    settled.target = nil
    settled.openOperation = nil
    operation.forgetConfiguration()
    enter(.failed, &operation, at: now, &outcome)
    commit(.putInstance(settled), &outcome)
  }

  /// Gives an instance's configurable properties the values that its functions had before the
  /// modification that is open, as a configuration of its own: who took over the other one is told.
  func restoreConfiguration(of instance: inout VnfInstance) {
    guard let target = instance.target else { return }
    let declared = state.packages[instance.package]?.content?.descriptor.modifiable
    for name in (declared?.configurableProperties ?? [:]).keys {
      instance.info.configurableProperties[name] = instance.settled.parameters[name]
    }
    instance.settled.generation = target.generation + 1
  }

  static func defaultName(of id: VnfInstanceID) -> String { "vnf-\(id.rawValue.prefix(8))" }

  func checkName(
    _ name: String, of id: VnfInstanceID, _ tenant: TenantID
  ) throws(NFVError) {
    guard (1...63).contains(name.utf8.count) else {
      throw NFVError(.malformed, "a VNF's name has 1 to 63 octets, not \(name.utf8.count)")
    }
    if let other = state.instances.values.first(where: {
      $0.tenant == tenant && $0.name == name && $0.id != id
    }) {
      throw NFVError(
        .conflict,
        "the name \(name) is taken by the VNF instance \(other.id); choose another, or terminate and "
          + "delete that one first")
    }
  }

  /// What an instance has of extensions and configurable properties when it is instantiated.
  func info(
    of instance: VnfInstance, at request: InstantiateVnfRequest
  ) throws(NFVError) -> VnfInfo {
    var info = instance.info
    let declared = state.packages[instance.package]?.content?.descriptor.modifiable
    // A parameter that can be changed later is what a property begins with.
    for (name, value) in request.parameters
    where declared?.configurableProperties[name] != nil && value != .null {
      info.configurableProperties[name] = value
    }
    info.configurableProperties.merge(patch: request.configurableProperties)
    info.extensions.merge(patch: request.extensions)
    try check(info, of: instance, isComplete: true)
    return info
  }

  /// - Parameter isComplete: whether all that is required must be there; before an instantiation it
  ///   may come piece by piece.
  private func check(
    _ info: VnfInfo, of instance: VnfInstance, isComplete: Bool
  ) throws(NFVError) {
    let declared =
      state.packages[instance.package]?.content?.descriptor.modifiable
      ?? VnfDescriptor.Modifiable()
    for (what, values, declared) in [
      ("configurable property", info.configurableProperties, declared.configurableProperties),
      ("extension", info.extensions, declared.extensions),
    ] {
      let unknown = values.keys.filter { declared[$0] == nil }
      guard unknown.isEmpty else {
        throw NFVError(
          .unprocessable,
          "the descriptor of \(instance.name) declares no \(what) \(list(unknown)); it declares "
            + list(declared.keys))
      }
      for (name, value) in values.sorted(by: { $0.key < $1.key }) where value != .null {
        try declared[name]?.schema.check(value, called: name)
      }
      let missing = declared.filter { $0.value.default == nil && values[$0.key] == nil }.keys
      guard missing.isEmpty || !isComplete else {
        throw NFVError(
          .unprocessable,
          "\(instance.name) needs the \(what) \(list(missing)), which its descriptor requires")
      }
    }
    try info.checkSize(of: instance.name)
  }
}

extension VnfLcmOpOcc {
  /// The configurable properties were not changed after all.
  mutating func forgetConfiguration() {
    changedInfo?[VnfInstance.Attribute.configurableProperties.rawValue] = nil
  }
}

extension VnfInstance {
  /// The attributes that a client may modify, by SOL003's names.
  enum Attribute: String, CaseIterable {
    case name = "vnfInstanceName"
    case description = "vnfInstanceDescription"
    case configurableProperties = "vnfConfigurableProperties"
    case metadata
    case extensions
  }

  fileprivate var modifiableAttributes: [String: JSONValue] {
    [
      Attribute.name.rawValue: .string(name),
      Attribute.description.rawValue: .string(description),
      Attribute.configurableProperties.rawValue: .object(info.configurableProperties),
      Attribute.metadata.rawValue: .object(info.metadata),
      Attribute.extensions.rawValue: .object(info.extensions),
    ]
  }

  /// Takes the attributes; one that is missing goes back to its default.
  fileprivate mutating func setModifiable(_ attributes: [String: JSONValue]) throws(NFVError) {
    func text(_ attribute: Attribute, default text: String) throws(NFVError) -> String {
      switch attributes[attribute.rawValue] {
      case nil: text
      case .string(let text)?: text
      default: throw NFVError(.malformed, "\(attribute.rawValue) must be a string")
      }
    }
    func members(_ attribute: Attribute) throws(NFVError) -> [String: JSONValue] {
      switch attributes[attribute.rawValue] {
      case nil: [:]
      case .object(let members)?: members
      default: throw NFVError(.malformed, "\(attribute.rawValue) must be an object")
      }
    }
    name = try text(.name, default: Core.defaultName(of: id))
    description = try text(.description, default: "")
    info = VnfInfo(
      configurableProperties: try members(.configurableProperties),
      metadata: try members(.metadata), extensions: try members(.extensions))
  }
}

extension VnfInfo {
  /// In octets, about: what a client keeps with an instance is in the daemon's memory.
  private static let maximumSize = 256 << 10

  /// Declared values that the descriptor gives.
  init(defaultsOf declared: VnfDescriptor.Modifiable) {
    func values(_ declared: [String: VnfDescriptor.Parameter]) -> [String: JSONValue] {
      declared.compactMapValues(\.default).filter { $0.value != .null }
    }
    self.init(
      configurableProperties: values(declared.configurableProperties),
      metadata: values(declared.metadata), extensions: values(declared.extensions))
  }

  func checkSize(of name: String) throws(NFVError) {
    let size = [configurableProperties, metadata, extensions].reduce(0) { $0 + Self.size($1) }
    guard size <= Self.maximumSize else {
      throw NFVError(
        .tooLarge,
        "the metadata, extensions and configurable properties of \(name) would have \(size) octets; "
          + "together they have at most \(Self.maximumSize)")
    }
  }

  private static func size(_ members: [String: JSONValue]) -> Int {
    members.reduce(0) { $0 + $1.key.utf8.count + size($1.value) }
  }

  private static func size(_ value: JSONValue) -> Int {
    switch value {
    case .null, .bool, .integer, .number: 8
    case .string(let text): text.utf8.count + 8
    case .array(let items): items.reduce(8) { $0 + size($1) }
    case .object(let members): size(members) + 8
    }
  }
}
