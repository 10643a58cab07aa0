import { lazy, Suspense, useEffect } from "react";

import { Button } from "../ui/button.tsx";
import { Empty, Loading, Trouble } from "../ui/notices.tsx";
import { Toaster } from "../ui/toast.tsx";
import { Announcer } from "./announcer.tsx";
import { FaultBoundary } from "./fault_boundary.tsx";
import { chooseLanguage, usePreferences } from "./preferences.ts";
import { navigate, type Route, useRoute } from "./route.ts";
import { checkSession, useSession } from "./session.ts";
import { Shell } from "./shell.tsx";
import { SignIn } from "./sign_in.tsx";
import { useWords, wordsOf, WordsContext } from "./words.ts";

const AdminPage = lazy(() => import("../admin/admin_page.tsx"));
const WidgetPage = lazy(() => import("../widget/widget_page.tsx"));

export function App() {
  const { language } = usePreferences();
  const route = useRoute();
  const asked = route.page === "widget" ? route.language : null;
  return (
    <WordsContext value={wordsOf(chooseLanguage(asked ?? language, navigator.languages))}>
      <FaultBoundary>
        {route.page === "widget" ? (
          <Suspense fallback={<Waiting />}>
            <WidgetPage publishableKey={route.key} />
          </Suspense>
        ) : (
          <Gate route={route} />
        )}
        <Toaster />
        <Announcer />
      </FaultBoundary>
    </WordsContext>
  );
}

/** Nobody sees a page before the server has said who they are. */
function Gate({ route }: { route: Exclude<Route, { page: "widget" }> }) {
  const t = useWords();
  const session = useSession();
  useEffect(() => void checkSession(), []);
  switch (session.state) {
    case "loading":
      return <Waiting />;
    case "out":
      return <SignIn />;
    case "unreachable":
      return (
        <main className="flex h-full items-center justify-center p-6">
          <div className="w-full max-w-md">
            <Trouble
              title={t.errors.unreachable}
              hint={t.errors.unreachableCheck}
              actions={<Button onClick={() => void checkSession()}>{t.app.retry}</Button>}
            />
          </div>
        </main>
      );
    case "in":
      if (route.page === "chat") return <Shell route={route} />;
      if (route.page === "admin")
        return (
          <Suspense fallback={<Waiting />}>
            <AdminPage section={route.section} />
          </Suspense>
        );
      return (
        <main className="flex h-full items-center justify-center">
          <Empty title={t.app.notFound}>
            <Button onClick={() => navigate("/")}>{t.app.toChat}</Button>
          </Empty>
        </main>
      );
  }
}

function Waiting() {
  const t = useWords();
  return (
    <main className="flex h-full items-center justify-center">
      <Loading label={t.app.loading} />
    </main>
  );
}
