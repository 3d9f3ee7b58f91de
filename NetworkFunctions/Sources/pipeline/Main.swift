import Functions
import Hosting

// The package manager names a program's `main` so.
@c(pipeline_main)
public func main(
  _ count: Int32, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
) -> Int32 {
  Hosting.run(Pipeline(), count, arguments)
}
