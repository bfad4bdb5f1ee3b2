// `npm run api`: writes down what the package exports. Look at the difference before you commit it.
import { writeFileSync } from "node:fs"
import * as path from "node:path"
import { api } from "../test/architecture/api.ts"

writeFileSync(path.join(import.meta.dirname, "../api.txt"), api())
