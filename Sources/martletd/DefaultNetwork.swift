import Logging
import NFVLifecycle
import NFVModel
import ServiceLifecycle

/// Gives a tenant without any network the one called `default`, where a VNF's only external
/// connection point goes that is told no network.
struct DefaultNetwork: Service {
  let lifecycle: Lifecycle
  let logger: Logger

  func run() async throws {
    do throws(NFVError) {
      let isFirst = try lifecycle.read { (state: borrowing State) throws(NFVError) -> Bool in
        state.networks.isEmpty
      }
      if isFirst {
        _ = try await lifecycle.submit(
          .createNetwork(NetworkRequest(name: "default")), actor: "martlet")
      }
    } catch {
      logger.warning("There is no network called default", metadata: ["error": "\(error)"])
    }
  }
}
